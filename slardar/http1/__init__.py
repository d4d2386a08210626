"""HTTP/1.1 as a proxy needs it, without sockets.

Words used here, each with one meaning:

* a *request* or a *reply* is a parsed head; its body flows apart from it;
* a *channel* is something bytes are written to and that can be paused: a socket
  in ``slardar.dataplane``, a recorder in tests;
* *downstream* is the side the request came from, *origin* the server's side;
* an *exchange* takes one request to one reply, over as many attempts as it needs.

Nothing in this package touches a socket, a clock or the reactor: it is given
bytes and calls methods of the channels it is handed.
"""
