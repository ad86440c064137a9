// A partner's delivery and a bidder's request by Node's fetch, each done twice.
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

const { API, BIDS, NAME, PASSWORD, FILE, BID } = process.env;
const headers = { "Content-Type": "application/json" };
const api = async (method, path, body) => {
  const answer = await fetch(API + path, { method, headers, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
};

const { token } = await api("POST", "/login", { username: NAME, password: PASSWORD });
headers.Authorization = `bearer ${token}`;
const { id } = await api("POST", "/audience", { advertiser: "shop", name: "By fetch" });
const form = { filename: "fetch.txt", action: "add", type: "sha2" };
const { requestId, output } = await api("POST", `/audience/upload/${id}`, form);

// First as a stream, which fetch sends in chunks, then as a whole.
const content = await readFile(FILE);
for (const body of [new Blob([content]).stream(), content]) {
  const put = await fetch(output.presignedURI, { method: "PUT", body, duplex: "half" });
  console.log(`put ${put.status}`);
  let status;
  do {
    await setTimeout(100);
    ({ status } = (await api("GET", `/audience/upload/${requestId}`)).output);
  } while (status !== "done");
  console.log(`status ${status}`);
}

const bids = [];
for (let n = 0; n < 2; n++) {
  const answer = await fetch(BIDS, { method: "POST", body: BID });
  bids.push([answer.status, (await answer.json()).user.data.some((data) => data.id === "shop")]);
}
console.log(`bid ${bids[0][0]} ${bids[1][0]} ${JSON.stringify(bids.map((bid) => bid[1]))}`);
