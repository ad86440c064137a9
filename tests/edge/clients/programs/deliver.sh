# A partner's delivery and a bidder's request by curl, each done twice.
set -eu
api() { # METHOD PATH [BODY]
    curl -sSf -X "$1" "$API$2" -H "Authorization: bearer $TOKEN" -H 'Content-Type: application/json' ${3:+-d "$3"}
}

TOKEN=
TOKEN=$(api POST /login "{\"username\": \"$NAME\", \"password\": \"$PASSWORD\"}" | jq -r .token)
audience=$(api POST /audience '{"advertiser": "shop", "name": "By curl"}' | jq -r .id)
upload=$(api POST "/audience/upload/$audience" '{"filename": "curl.txt", "action": "add", "type": "sha2"}')

for _ in 1 2; do
    echo "put $(curl -sS -w '%{http_code}' -T "$FILE" "$(echo "$upload" | jq -r .output.presignedURI)")"
    status=
    until [ "$status" = done ]; do
        sleep 0.1
        status=$(api GET "/audience/upload/$(echo "$upload" | jq -r .requestId)" | jq -r .output.status)
    done
    echo "status $status"
done

# --http2 without TLS offers `Upgrade: h2c`. Both requests go over one connection.
curl -sS --http2 -d "$BID" -H 'Content-Type: application/json' -o answer.json -w 'bid %{http_code} ' "$BIDS" \
    --next -sS --http2 -d "$BID" -H 'Content-Type: application/json' -o again.json -w '%{http_code} ' "$BIDS"
jq -rs 'map(.user.data | map(.id) | index("shop") != null) | @json' answer.json again.json
