// Loaded before Omniboard, which has no option for the address: it would listen on every interface,
// without a password. Every listen(port) without a host is sent to this machine's own address.
"use strict";
const net = require("net");
const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (port, ...rest) {
  const number = typeof port === "number" || (typeof port === "string" && /^\d+$/.test(port));
  if (number && typeof rest[0] !== "string") rest.unshift("127.0.0.1");
  return listen.call(this, port, ...rest);
};
