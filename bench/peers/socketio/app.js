// Rooms on Socket.IO with its Redis adapter, by websocket alone, as its documentation has it.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import jwt from "jsonwebtoken";
import pg from "pg";
import { createClient } from "redis";
import { Server } from "socket.io";

const { PORT, SECRET, REDIS_URL, DATABASE_URL, POOL } = process.env;
const publisher = await createClient({ url: REDIS_URL }).connect();
const subscriber = await publisher.duplicate().connect();
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: Number(POOL) });

const INSERT = { name: "insert", text: "insert into peer_messages (room, sender, client_id, message) values ($1, $2, $3, $4)" };

const server = createServer((request, response) => response.end("ok"));
const io = new Server(server, {
  transports: ["websocket"],
  perMessageDeflate: false,
  serveClient: false,
  adapter: createAdapter(publisher, subscriber),
});

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, SECRET, { algorithms: ["HS256"] }).sub;
    next();
  } catch (error) {
    next(error);
  }
});

io.on("connection", (socket) => {
  socket.join([`user:${socket.data.user}`, ...socket.handshake.auth.rooms]);
  socket.on("chat", async ({ room, client_id, message }) => {
    await pool.query({ ...INSERT, values: [room, socket.data.user, client_id, message] });
    io.to(room).emit("message", { room, sender: socket.data.user, client_id, message });
  });
});

server.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 4096 });
