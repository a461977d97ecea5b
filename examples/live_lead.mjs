// A buyer's enquiry reaches two agents' open sockets, one claims it, and the two talk. Told by a running server.
//
//     make run                                     # in one terminal
//     node examples/live_lead.mjs                  # in another; --url where the server is elsewhere
//
// The story of live_lead.py with the official JavaScript SDK, as a web or mobile app would use it. Everything goes through
// the public doors: REST by fetch, and the live protocol. Behind each event stand the milliseconds from its transaction's
// last moment before COMMIT (the event's `at`, the database's clock) to its arrival here, so both clocks should be those
// of one machine.

import { randomUUID } from "node:crypto";
import net from "node:net";
import { parseArgs } from "node:util";

const PASSWORD = "addis-abeba-2026";
const PATIENCE_MS = 10_000;
const RECONNECT_PATIENCE_MS = 30_000;

/** Why the story cannot go on, in words a person can act on. */
class Broken extends Error {}

/** One line of the timeline. */
function tell(who, what, sinceCommit) {
  const behind = sinceCommit === undefined ? "" : `   ${sinceCommit.toFixed(1).padStart(6)} ms from commit to socket`;
  console.log(`${performance.now().toFixed(1).padStart(8)} ms  ${who.padEnd(7)} ${what.padEnd(62)}${behind}`);
}

/** The promise's value; Broken if it takes longer. */
function within(milliseconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Broken(`${what} did not come within ${milliseconds / 1000} s`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The SDK, and the websocket it is to use: Node.js has its own from version 22 on. */
async function loadSdk() {
  try {
    const { Centrifuge } = await import("centrifuge");
    const websocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
    return { Centrifuge, websocket };
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new Broken("The npm packages of package.json are not installed: run `make assets`");
  }
}

/** What is put in comes out in order; taking waits for it. */
class Queue {
  #items = [];
  #waiting = [];

  put(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(item);
    else this.#items.push(item);
  }

  take() {
    if (this.#items.length) return Promise.resolve(this.#items.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/** Somebody with an account and a phone. */
class Person {
  #url;
  #tokens;
  #client;
  #heard = new Queue();
  #resumed = new Queue();

  constructor(name, url) {
    this.name = name;
    this.#url = url;
  }

  async signIn(email) {
    const form = new URLSearchParams({ username: email, password: PASSWORD });
    this.#tokens = await answerOf(`${this.#url}/api/v1/auth/login`, { method: "POST", body: form });
    tell(this.name, `signed in as ${email}`);
  }

  /** A REST call as this person. */
  post(path, body) {
    return postJson(`${this.#url}/api/v1${path}`, body, { Authorization: `Bearer ${this.#tokens.access_token}` });
  }

  async openSocket(sdk, url) {
    this.#client = new sdk.Centrifuge(url, {
      websocket: sdk.websocket,
      token: this.#tokens.access_token,
      getToken: () => this.#freshToken(),
    });
    this.#client.on("publication", ({ data }) => this.#hear(data));
    this.#client.on("subscribed", ({ wasRecovering, recovered }) => wasRecovering && this.#resumed.put(recovered));
    this.#client.connect();
    await this.#client.ready(PATIENCE_MS);
    tell(this.name, "socket open");
  }

  /** An operation over the socket. */
  async call(operation, body) {
    return (await this.#client.rpc(operation, body)).data;
  }

  /** The next event, which must be of this type. */
  async expect(type) {
    const event = await within(PATIENCE_MS, `${type} for ${this.name}`, this.#heard.take());
    if (event.type !== type) throw new Broken(`${this.name} expected ${type} and heard ${JSON.stringify(event)}`);
    return event.data;
  }

  /** Whether the next reconnect made up for what was missed. */
  resumed() {
    return within(RECONNECT_PATIENCE_MS, `${this.name}'s socket`, this.#resumed.take());
  }

  close() {
    this.#client?.disconnect();
  }

  #hear(event) {
    const late = performance.timeOrigin + performance.now() - Date.parse(event.at);
    tell(this.name, `← ${event.type}${event.data.message ? `: “${event.data.message}”` : ""}`, late);
    this.#heard.put(event);
  }

  async #freshToken() {
    const body = { refresh_token: this.#tokens.refresh_token };
    this.#tokens = await postJson(`${this.#url}/api/v1/auth/refresh`, body);
    return this.#tokens.access_token;
  }
}

function postJson(url, body, headers = {}) {
  const json = { "Content-Type": "application/json" };
  return answerOf(url, { method: "POST", body: JSON.stringify(body), headers: { ...json, ...headers } });
}

/** The JSON of an answer; Broken with the problem document if it is one. */
async function answerOf(url, request) {
  let answer;
  try {
    answer = await fetch(url, { ...request, signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch (error) {
    const reason = error.cause?.code ?? error.message;
    throw new Broken(`No server at ${new URL(url).origin} (${reason}): start one with \`make run\``);
  }
  const text = await answer.text();
  if (!answer.ok) throw new Broken(`${request.method} ${new URL(url).pathname} was refused: ${text}`);
  return JSON.parse(text);
}

/** A stretch of network that can be cut: what a tunnel does to a phone. */
class Network {
  #links = new Set();
  #up = true;
  #server;

  constructor({ hostname, port }) {
    this.#server = net.createServer((near) => this.#relay(near, hostname, Number(port) || 80));
  }

  /** Where to connect instead of to the server. */
  async address() {
    await new Promise((resolve, reject) => this.#server.once("error", reject).listen(0, "127.0.0.1", resolve));
    return `127.0.0.1:${this.#server.address().port}`;
  }

  /** Drop every connection, and refuse new ones until `heal`. */
  cut() {
    this.#up = false;
    for (const link of this.#links) link.destroy();
  }

  heal() {
    this.#up = true;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #relay(near, host, port) {
    if (!this.#up) {
      near.destroy();
      return;
    }
    const far = net.connect(port, host);
    for (const [link, other] of [[near, far], [far, near]]) {
      this.#links.add(link);
      link.on("error", () => {}); // cut: that is what this network is for; "close" follows
      link.on("close", () => {
        this.#links.delete(link);
        other.destroy();
      });
      link.pipe(other);
    }
  }
}

/** The lead, or undefined if another agent was first. */
async function claim(person, leadId) {
  try {
    return await person.call("lead.claim", { lead_id: leadId });
  } catch (error) {
    if (!(error.code >= 1000)) throw error; // not a refusal of ours
    const problem = JSON.parse(error.message);
    tell(person.name, `claim refused: ${problem.code} (${problem.title.toLowerCase()})`);
    return undefined;
  }
}

/** From signing in to a lossless resume. */
async function story(url, sdk) {
  const server = new URL(url);
  const network = new Network(server);
  const [hanna, selam, dawit] = ["Hanna", "Selam", "Dawit"].map((name) => new Person(name, url));
  try {
    for (const person of [hanna, selam, dawit]) {
      await person.signIn(`${person.name.toLowerCase()}@demo.key2key.example`);
    }
    for (const person of [hanna, selam]) await person.openSocket(sdk, `ws://${server.host}/connection/websocket`);
    await dawit.openSocket(sdk, `ws://${await network.address()}/connection/websocket`);
    await lead(hanna, selam, dawit);
    await tunnel(hanna, selam, dawit, network);
  } finally {
    for (const person of [hanna, selam, dawit]) person.close();
    network.close();
  }
}

/** Hanna buys; Selam and Dawit are agents of one agency. */
async function lead(hanna, selam, dawit) {
  const home = await selam.post("/properties", {
    title: "Two bedrooms near Edna Mall",
    property_type: "apartment",
    listing_type: "rent",
    price: 48000,
    city: "Addis Ababa",
    neighborhood: "Bole",
    bedrooms: 2,
  });
  tell("Selam", `published “${home.title}”`);
  const enquiry = await enquire(hanna, home, "Selam! Is it still free?");
  tell("Hanna", "enquired");
  await hanna.expect("message.new");
  for (const agent of [selam, dawit]) await agent.expect("lead.offered");

  const won = await Promise.all([claim(selam, enquiry.lead_id), claim(dawit, enquiry.lead_id)]);
  const [winner, loser] = won[0] ? [selam, dawit] : [dawit, selam];
  tell(winner.name, `claimed it: the buyer is ${(won[0] ?? won[1]).buyer.full_name}`);
  await winner.expect("lead.claimed");
  await loser.expect("lead.taken");
  await hanna.expect("enquiry.assigned");

  const say = (person, message) =>
    person.call("chat.send", { conversation_id: enquiry.conversation_id, client_id: randomUUID(), message });
  await say(winner, "Yes, it is. Would you like to see it tomorrow?");
  await say(hanna, "At ten, please.");
  for (const person of [hanna, winner]) {
    for (let heard = 0; heard < 2; heard += 1) await person.expect("message.new");
  }
}

/** Dawit's network goes away, something happens, and it comes back. */
async function tunnel(hanna, selam, dawit, network) {
  network.cut();
  tell("Dawit", "✂ the network is cut, and a second home is asked for meanwhile");
  const home = await selam.post("/properties", {
    title: "Studio on Churchill Avenue",
    property_type: "apartment",
    listing_type: "rent",
    price: 21000,
    city: "Addis Ababa",
  });
  await enquire(hanna, home, "And this one?");
  await selam.expect("lead.offered");
  network.heal();
  const recovered = await dawit.resumed();
  await dawit.expect("lead.offered");
  tell("Dawit", `socket back, recovered=${recovered}: nothing was lost`);
  if (!recovered) throw new Broken("the stream was not recovered");
}

function enquire(person, home, message) {
  return person.post(`/listings/${home.id}/enquiries`, { client_id: randomUUID(), message });
}

async function main() {
  const options = { url: { type: "string", default: "http://127.0.0.1:8080" } };
  const { url } = parseArgs({ options }).values;
  await story(url.replace(/\/+$/, ""), await loadSdk());
}

main().catch((error) => {
  console.error(error instanceof Broken ? error.message : `The story broke off: ${error.message ?? error}`);
  process.exitCode = 1;
});
