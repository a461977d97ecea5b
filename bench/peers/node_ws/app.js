// Rooms on `ws` and Redis, as one would write them today: a room is a Redis channel that a process listens to while it
// has members of it, and what comes is sent on as it came. BATCHED=1 stores chat messages a set at a time, as Key2Key does.
import { createServer } from "node:http";
import jwt from "jsonwebtoken";
import pg from "pg";
import { createClient } from "redis";
import { WebSocketServer } from "ws";

const { PORT, SECRET, REDIS_URL, DATABASE_URL, POOL, BATCHED } = process.env;
const publisher = await createClient({ url: REDIS_URL }).connect();
const subscriber = await publisher.duplicate().connect();
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: Number(POOL) });
const rooms = new Map();

const INSERT = { name: "insert", text: "insert into peer_messages (room, sender, client_id, message) values ($1, $2, $3, $4)" };
const INSERT_MANY = {
  name: "insert many",
  text: "insert into peer_messages (room, sender, client_id, message) select * from unnest($1::text[], $2::uuid[], $3::text[], $4::text[])",
};

async function join(socket, name) {
  const members = rooms.get(name);
  if (members) return void members.add(socket);
  const joined = new Set([socket]);
  rooms.set(name, joined);
  // As a buffer: nothing is decoded only to be encoded again.
  await subscriber.subscribe(name, (message) => { for (const member of joined) member.send(message, { binary: false }); }, true);
}

function leave(socket) {
  for (const name of socket.rooms) {
    const members = rooms.get(name);
    members.delete(socket);
    if (members.size === 0) {
      rooms.delete(name);
      subscriber.unsubscribe(name);
    }
  }
}

const waiting = [];
let storing = false;

async function storeWaiting() {
  storing = true;
  while (waiting.length) {
    const items = waiting.splice(0, 256);
    const column = (name) => items.map((item) => item[name]);
    try {
      await pool.query({ ...INSERT_MANY, values: [column("room"), column("sender"), column("client_id"), column("message")] });
      for (const item of items) item.done();
    } catch (error) {
      for (const item of items) item.failed(error);
    }
  }
  storing = false;
}

function store(item) {
  if (!BATCHED) return pool.query({ ...INSERT, values: [item.room, item.sender, item.client_id, item.message] });
  return new Promise((done, failed) => {
    waiting.push({ ...item, done, failed });
    if (!storing) storeWaiting();
  });
}

async function receive(socket, text) {
  const wish = JSON.parse(text);
  if (!socket.user) {
    const claims = jwt.verify(wish.token, SECRET, { algorithms: ["HS256"] });
    socket.user = claims.sub;
    socket.rooms = [`user:${claims.sub}`, ...wish.rooms];
    await Promise.all(socket.rooms.map((name) => join(socket, name)));
    socket.send('{"ready":true}');
    return;
  }
  const message = { room: wish.room, sender: socket.user, client_id: wish.client_id, message: wish.message };
  await store(message);
  await publisher.publish(wish.room, JSON.stringify(message));
}

const server = createServer((request, response) => response.end("ok"));
const door = new WebSocketServer({ server, path: "/ws", perMessageDeflate: false, maxPayload: 65536 });
door.on("connection", (socket) => {
  socket.rooms = [];
  socket.on("message", (text) => receive(socket, text).catch(() => socket.close(1008)));
  socket.on("error", () => {});
  socket.on("close", () => leave(socket));
});
setInterval(() => { for (const socket of door.clients) socket.ping(); }, 25_000);
server.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 4096 });
