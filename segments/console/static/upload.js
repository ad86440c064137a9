// Sends the page's own form once for each file, looks into each first, and shows how far it is.
"use strict";
(() => {
  const form = document.getElementById("upload");
  if (!form) return;
  const list = document.getElementById("files");
  const drop = document.getElementById("drop");
  const input = form.elements.file;
  const LOOK = 64 * 1024;
  const KINDS = { 32: "MD5", 40: "SHA-1", 64: "SHA-256" };
  let turn = Promise.resolve();

  input.multiple = true;
  input.required = false;
  form.querySelector("button.main").hidden = true;
  document.getElementById("drop-words").prepend("Drop files here, or choose them. ");

  const make = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text) made.textContent = text;
    return made;
  };
  const size = (bytes) => {
    const units = ["bytes", "kB", "MB", "GB"];
    let at = 0;
    while (bytes >= 1000 && at < units.length - 1) { bytes /= 1000; at += 1; }
    return `${at ? bytes.toPrecision(3) : bytes} ${units[at]}`;
  };

  // A state is an icon and a word, as on every page.
  const say = (state, kind, word) => {
    state.className = `state ${kind === "off" ? "" : kind}`;
    state.replaceChildren(document.getElementById(`icon-${kind}`).content.cloneNode(true), word);
  };

  // The first lines as text; null: nothing that can be looked into here.
  const beginning = async (file) => {
    const head = file.slice(0, LOOK);
    const bytes = new Uint8Array(await head.slice(0, 4).arrayBuffer());
    if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes.includes(0) || bytes[0] === 0x50 ? null : head.text();
    const reader = head.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
    const decoder = new TextDecoder();
    let text = "";
    try {
      for (let part = await reader.read(); !part.done && text.length < LOOK; part = await reader.read()) text += decoder.decode(part.value, { stream: true });
    } catch { /* the slice ends within the file */ }
    return text;
  };

  // What stands in the first lines: { stop } keeps the file here, { said } is only told.
  const judge = (text) => {
    const lines = text.split(/\r\n|\n|\r/).slice(0, 1001);
    if (text.length >= LOOK) lines.pop();
    const filled = lines.map((line) => line.trim()).filter(Boolean);
    const plain = filled.filter((line) => /[^\s@]@[^\s@]+\.[^\s@]/.test(line)).length;
    if (plain * 2 > filled.length) return { stop: "These look like plain e-mail addresses, so nothing was sent: not one byte of it left your machine. Hash them first." };
    const kinds = new Set();
    for (const line of filled) {
      const found = /(?:^|[^0-9a-f])([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?:$|[^0-9a-f])/i.exec(line);
      if (found) kinds.add(KINDS[found[1].length]);
    }
    const named = [...kinds].join(" and ");
    if (kinds.size > 1) return { said: `The first lines are ${named}: one kind of hash in a file, the others count as bad.` };
    if (kinds.size === 1) return { said: `The first lines are ${named}.` };
    return { said: "No hash in the first lines." };
  };

  const send = (file, row, state, said, buttons) => new Promise((done) => {
    const bar = make("progress");
    bar.max = file.size;
    bar.value = 0;
    bar.setAttribute("aria-label", `Sent of ${file.name}`);
    row.append(bar);
    const request = new XMLHttpRequest();
    const stop = make("button", "button small", "Stop");
    stop.type = "button";
    stop.addEventListener("click", () => request.abort());
    buttons.replaceChildren(stop);
    const began = performance.now();
    request.upload.addEventListener("progress", (event) => {
      bar.value = Math.min(event.loaded, file.size);
      const perS = event.loaded / ((performance.now() - began) / 1000);
      said.textContent = `${Math.floor((event.loaded / event.total) * 100)} %, ${size(perS)}/s`;
    });
    const end = (word, kind, text) => {
      say(state, kind, word);
      said.textContent = text;
      bar.remove();
      buttons.replaceChildren();
      done();
    };
    const again = () => {
      const button = make("button", "button small", "Try again");
      button.type = "button";
      button.addEventListener("click", () => { turn = turn.then(() => send(file, row, state, said, buttons)); });
      buttons.replaceChildren(button);
    };
    request.addEventListener("load", () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* a page: the login has ended */ }
      if (request.status !== 200 || !answer.delivery) {
        end("Not kept", "bad", answer.error || "It was not taken. Load the page again, and try once more.");
        again();
        return;
      }
      end("Kept", "good", "");
      const follow = make("a", "button small", "Follow");
      follow.href = answer.delivery;
      buttons.replaceChildren(follow);
    });
    request.addEventListener("error", () => { end("Not kept", "bad", "The connection broke off."); again(); });
    request.addEventListener("abort", () => { end("Stopped", "off", "Nothing of it was kept."); again(); });
    say(state, "busy", "Sending");
    const data = new FormData();
    for (const name of ["_t", "audience", "action"]) data.append(name, form.elements[name].value);
    data.append("file", file);
    request.open("POST", form.getAttribute("action")); // `form.action` is the field of that name
    request.setRequestHeader("Accept", "application/json");
    request.send(data);
  });

  const take = async (file) => {
    const row = make("li");
    const line = make("div", "row");
    const title = make("div", "grow");
    title.append(make("b", "name", file.name), " ", make("span", "soft", size(file.size)));
    const state = make("span", "state", "Waits");
    const buttons = make("div", "actions");
    const said = make("p", "small");
    const looked = make("p", "small soft");
    line.append(title, state, buttons);
    row.append(line, said, looked);
    list.append(row);
    const refuse = (text) => {
      say(state, "bad", "Not sent");
      said.textContent = text;
    };
    if (file.size > Number(form.dataset.maxBytes)) return refuse("Larger than this page takes. Send it in parts.");
    if (!file.size) return refuse("The file is empty.");
    const text = await beginning(file);
    const found = text === null ? {} : judge(text);
    if (found.stop) return refuse(found.stop);
    looked.textContent = found.said || "";
    turn = turn.then(() => send(file, row, state, said, buttons));
    return turn;
  };

  const takeAll = (files) => { for (const file of files) take(file); };
  input.addEventListener("change", () => { takeAll([...input.files]); input.value = ""; });
  form.addEventListener("submit", (event) => event.preventDefault());
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => { event.preventDefault(); takeAll([...event.dataTransfer.files]); });
})();
