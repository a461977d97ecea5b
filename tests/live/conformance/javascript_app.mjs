// Apps with the JavaScript SDK that do what they are told, a JSON object a line: orders on the input, each with the name
// of its app, answers and what the SDK tells the app on the output.

import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import * as json from "centrifuge";
import * as protobuf from "centrifuge/build/protobuf";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

class App {
  constructor(name) {
    this.name = name;
  }

  heard(kind, what = {}) {
    tell({ app: this.name, heard: { kind, ...what } });
  }

  /** With Protobuf the SDK takes and gives bytes, which carry JSON by convention. */
  encoded(value) {
    return this.protobuf ? encoder.encode(JSON.stringify(value)) : value;
  }

  decoded(value) {
    if (!this.protobuf || value === undefined || value === null) return value ?? null;
    return value.length ? JSON.parse(decoder.decode(value)) : null;
  }

  /** What the SDK tells in the same words of subscriptions of both kinds. */
  listen(source) {
    source.on("subscribed", (ctx) =>
      this.heard("subscribed", {
        channel: ctx.channel,
        was_recovering: ctx.wasRecovering,
        recovered: ctx.recovered,
        offset: ctx.streamPosition ? Number(ctx.streamPosition.offset) : null,
        epoch: ctx.streamPosition?.epoch ?? null,
      }),
    );
    source.on("unsubscribed", (ctx) => this.heard("unsubscribed", { channel: ctx.channel, code: ctx.code ?? null }));
    source.on("publication", (ctx) =>
      this.heard("publication", {
        channel: ctx.channel,
        data: this.decoded(ctx.data),
        offset: ctx.offset ? Number(ctx.offset) : null,
        user: ctx.info?.user ?? null,
      }),
    );
    for (const kind of ["join", "leave"]) {
      source.on(kind, ({ channel, info }) => this.heard(kind, { channel, client: info.client, user: info.user }));
    }
  }

  async bringToken(sdk, tokens) {
    this.heard("token");
    if (tokens.length === 0) throw new sdk.UnauthorizedError("no token left");
    return tokens.shift();
  }

  async bringState(channel, states) {
    this.heard("state", { channel });
    const [epoch, offset] = states.shift();
    return { epoch, offset };
  }
}

const orders = {
  open(app, { address, token, data, tokens, ...what }) {
    app.protobuf = what.protobuf;
    const sdk = app.protobuf ? protobuf : json;
    app.client = new sdk.Centrifuge(address, {
      websocket: WebSocket,
      token,
      data: data === null ? null : app.encoded(data),
      getToken: tokens === null ? null : () => app.bringToken(sdk, tokens),
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
    });
    app.listen(app.client);
    app.client.on("connecting", (ctx) => app.heard("connecting", { code: ctx.code }));
    app.client.on("connected", (ctx) => app.heard("connected", { client: ctx.client }));
    app.client.on("disconnected", (ctx) => app.heard("disconnected", { code: ctx.code }));
    app.client.on("error", (ctx) => app.heard("error", { code: ctx.error.code }));
  },
  connect: ({ client }) => client.connect(),
  disconnect: ({ client }) => client.disconnect(),
  subscribe(app, { channel, joins, states }) {
    const options = { recoverable: true, positioned: true, joinLeave: joins };
    if (states !== null) options.getState = () => app.bringState(channel, states);
    const delays = { minResubscribeDelay: 20, maxResubscribeDelay: 200 };
    const subscription = app.client.newSubscription(channel, { ...options, ...delays });
    app.listen(subscription);
    subscription.on("subscribing", (ctx) => app.heard("subscribing", { channel, code: ctx.code }));
    subscription.on("error", (ctx) => app.heard("error", { channel, code: ctx.error.code }));
    subscription.subscribe();
  },
  unsubscribe: ({ client }, { channel }) => client.getSubscription(channel).unsubscribe(),
  subscribe_again: ({ client }, { channel }) => client.getSubscription(channel).subscribe(),
  rpc: async (app, { method, data }) => app.decoded((await app.client.rpc(method, app.encoded(data))).data),
  publish: async (app, { channel, data }) => void (await app.client.publish(channel, app.encoded(data))),
  async presence(app, { channel }) {
    const { clients } = await app.client.presence(channel);
    return Object.values(clients).map((one) => [one.user, one.client, app.decoded(one.connInfo)]);
  },
  async presence_stats({ client }, { channel }) {
    const { numClients, numUsers } = await client.presenceStats(channel);
    return [numClients, numUsers];
  },
  async history({ client }, { channel, limit, since, reverse }) {
    const options = { limit, reverse, ...(since ? { since: { epoch: since[0], offset: since[1] } } : {}) };
    const { publications, epoch, offset } = await client.history(channel, options);
    return [publications.map((one) => Number(one.offset)), epoch, Number(offset)];
  },
  send: (app, { data }) => app.client.send(app.encoded(data)),
  close(app) {
    app.client?.disconnect();
    apps.delete(app.name);
  },
};

const apps = new Map();

process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  const { app: name, order, number, ...what } = JSON.parse(line);
  if (!apps.has(name)) apps.set(name, new App(name));
  Promise.resolve()
    .then(() => orders[order](apps.get(name), what))
    .then(
      (answer) => tell({ number, answer: answer ?? null }),
      (error) => tell({ number, refused: [error.code ?? 0, String(error.message), Boolean(error.temporary)] }),
    );
}
process.exit(0);
