// An app with the JavaScript SDK that does what it is told, a JSON object a line: orders on its input, answers and what
// the SDK tells it on its output.
//
//     node javascript_app.mjs json|protobuf

import { createInterface } from "node:readline";
import { WebSocket } from "ws";

const protobuf = process.argv[2] === "protobuf";
const { Centrifuge, UnauthorizedError } = await import(protobuf ? "centrifuge/build/protobuf" : "centrifuge");

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** With Protobuf the SDK takes and gives bytes, which carry JSON by convention. */
function encoded(value) {
  return protobuf ? encoder.encode(JSON.stringify(value)) : value;
}

function decoded(value) {
  if (!protobuf || value === undefined || value === null) return value ?? null;
  return value.length ? JSON.parse(decoder.decode(value)) : null;
}

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function heard(kind, what = {}) {
  tell({ heard: { kind, ...what } });
}

/** What the SDK tells in the same words of subscriptions of both kinds. */
function listen(source) {
  source.on("subscribed", (ctx) =>
    heard("subscribed", {
      channel: ctx.channel,
      was_recovering: ctx.wasRecovering,
      recovered: ctx.recovered,
      offset: ctx.streamPosition ? Number(ctx.streamPosition.offset) : null,
      epoch: ctx.streamPosition?.epoch ?? null,
    }),
  );
  source.on("unsubscribed", (ctx) => heard("unsubscribed", { channel: ctx.channel, code: ctx.code ?? null }));
  source.on("publication", (ctx) =>
    heard("publication", {
      channel: ctx.channel,
      data: decoded(ctx.data),
      offset: ctx.offset ? Number(ctx.offset) : null,
      user: ctx.info?.user ?? null,
    }),
  );
  for (const kind of ["join", "leave"]) {
    source.on(kind, ({ channel, info }) => heard(kind, { channel, client: info.client, user: info.user }));
  }
}

let client;

const orders = {
  open({ address, token, data, tokens }) {
    client = new Centrifuge(address, {
      websocket: WebSocket,
      token,
      data: data === null ? null : encoded(data),
      getToken: tokens === null ? null : () => bringToken(tokens),
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
    });
    listen(client);
    client.on("connecting", (ctx) => heard("connecting", { code: ctx.code }));
    client.on("connected", (ctx) => heard("connected", { client: ctx.client }));
    client.on("disconnected", (ctx) => heard("disconnected", { code: ctx.code }));
    client.on("error", (ctx) => heard("error", { code: ctx.error.code }));
  },
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  subscribe({ channel, joins, states }) {
    const options = { recoverable: true, positioned: true, joinLeave: joins };
    if (states !== null) options.getState = () => bringState(channel, states);
    const delays = { minResubscribeDelay: 20, maxResubscribeDelay: 200 };
    const subscription = client.newSubscription(channel, { ...options, ...delays });
    listen(subscription);
    subscription.on("subscribing", (ctx) => heard("subscribing", { channel, code: ctx.code }));
    subscription.on("error", (ctx) => heard("error", { channel, code: ctx.error.code }));
    subscription.subscribe();
  },
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  subscribe_again: ({ channel }) => client.getSubscription(channel).subscribe(),
  rpc: async ({ method, data }) => decoded((await client.rpc(method, encoded(data))).data),
  publish: async ({ channel, data }) => void (await client.publish(channel, encoded(data))),
  async presence({ channel }) {
    const { clients } = await client.presence(channel);
    return Object.values(clients).map((one) => [one.user, one.client, decoded(one.connInfo)]);
  },
  async presence_stats({ channel }) {
    const { numClients, numUsers } = await client.presenceStats(channel);
    return [numClients, numUsers];
  },
  async history({ channel, limit, since, reverse }) {
    const options = { limit, reverse, ...(since ? { since: { epoch: since[0], offset: since[1] } } : {}) };
    const { publications, epoch, offset } = await client.history(channel, options);
    return [publications.map((one) => Number(one.offset)), epoch, Number(offset)];
  },
  send: ({ data }) => client.send(encoded(data)),
};

async function bringToken(tokens) {
  heard("token");
  if (tokens.length === 0) throw new UnauthorizedError("no token left");
  return tokens.shift();
}

async function bringState(channel, states) {
  heard("state", { channel });
  const [epoch, offset] = states.shift();
  return { epoch, offset };
}

process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  const { order, number, ...what } = JSON.parse(line);
  Promise.resolve()
    .then(() => orders[order](what))
    .then(
      (answer) => tell({ number, answer: answer ?? null }),
      (error) => tell({ number, refused: [error.code ?? 0, String(error.message), Boolean(error.temporary)] }),
    );
}
process.exit(0);
