import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A partner's delivery and a bidder's request by Java's HttpClient, each done twice.
 *
 * <p>As it comes: it prefers HTTP/2, and without TLS offers {@code Upgrade: h2c} with its requests.
 */
class Deliver {
    private static final Map<String, String> ENV = System.getenv();
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static String token = "";

    public static void main(String[] arguments) throws Exception {
        token = member(api("POST", "/login", "{\"username\": \"" + ENV.get("NAME")
                + "\", \"password\": \"" + ENV.get("PASSWORD") + "\"}"), "token");
        String audience = member(
                api("POST", "/audience", "{\"advertiser\": \"shop\", \"name\": \"By Java\"}"), "id");
        String upload = api("POST", "/audience/upload/" + audience,
                "{\"filename\": \"java.txt\", \"action\": \"add\", \"type\": \"sha2\"}");

        for (int n = 0; n < 2; n++) {
            HttpResponse<String> put = CLIENT.send(
                    HttpRequest.newBuilder(URI.create(member(upload, "presignedURI")))
                            .PUT(BodyPublishers.ofFile(Path.of(ENV.get("FILE")))).build(),
                    BodyHandlers.ofString());
            System.out.println("put " + put.statusCode());
            String status;
            do {
                Thread.sleep(100);
                status = member(
                        api("GET", "/audience/upload/" + member(upload, "requestId"), null), "status");
            } while (!status.equals("done"));
            System.out.println("status " + status);
        }

        List<Integer> codes = new ArrayList<>();
        List<Boolean> shown = new ArrayList<>();
        for (int n = 0; n < 2; n++) {
            HttpResponse<String> bid = CLIENT.send(
                    HttpRequest.newBuilder(URI.create(ENV.get("BIDS")))
                            .POST(BodyPublishers.ofString(ENV.get("BID"))).build(),
                    BodyHandlers.ofString());
            codes.add(bid.statusCode());
            shown.add(bid.body().contains("\"id\":\"shop\""));
        }
        System.out.println("bid " + codes.get(0) + " " + codes.get(1) + " " + shown.toString().replace(" ", ""));
    }

    private static String api(String method, String path, String body) throws Exception {
        BodyPublisher sent = body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body);
        HttpResponse<String> answer = CLIENT.send(
                HttpRequest.newBuilder(URI.create(ENV.get("API") + path)).method(method, sent)
                        .header("Content-Type", "application/json")
                        .header("Authorization", "bearer " + token).build(),
                BodyHandlers.ofString());
        if (answer.statusCode() / 100 != 2) {
            throw new IllegalStateException(path + ": " + answer.statusCode() + " " + answer.body());
        }
        return answer.body();
    }

    /** The JDK reads no JSON. */
    private static String member(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\": *\"?([^\",}]+)").matcher(json);
        if (!found.find()) {
            throw new IllegalStateException("no " + name);
        }
        return found.group(1);
    }
}
