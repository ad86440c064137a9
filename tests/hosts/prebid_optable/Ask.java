import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Optional;
import java.util.Set;

/** Asks as the module does: `java Ask.java PORT TENANT HASH GPP SID`; prints status and body. */
public class Ask {
    public static void main(String[] args) throws Exception {
        Set<Integer> sids = Set.of(Integer.valueOf(args[4]));
        Optional<Integer> first = sids.stream().findFirst();
        StringBuilder query = new StringBuilder();
        query.append("&id=").append(java.net.URLEncoder.encode("e:" + args[2], "UTF-8"));
        query.append("&gdpr=0&gpp=").append(args[3]);
        HttpClient client = HttpClient.newHttpClient();
        for (String separator : new String[] {"?", "&"}) {
            String endpoint = "http://127.0.0.1:" + args[0] + "/v2/targeting" + separator;
            // java.net.URI takes brackets in a query, and none in a path.
            String sid = separator.equals("?") ? "&gpp_sid=" + first : "";
            String rest = sid + "&timeout=" + Long.valueOf(2000) + "ms&osdk=prebid-server";
            HttpRequest request = HttpRequest.newBuilder(
                    URI.create(endpoint + "t=" + args[1] + "&o=pub-1" + query + rest))
                    .header("Accept", "application/json")
                    .header("X-Forwarded-For", "203.0.113.7")
                    .header("X-Forwarded-For", "2001:db8::1")
                    .timeout(Duration.ofSeconds(5)).GET().build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
