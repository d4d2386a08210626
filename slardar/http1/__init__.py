"""HTTP/1.1 as a proxy needs it, without sockets.

Words used here, each with one meaning:

* a *request* or a *reply* is a parsed head; its body flows apart from it;
* a *channel* takes bytes that are written to it, and can be paused: a socket in
  ``slardar.dataplane``, a recorder in tests;
* *downstream* is the client's side, *origin* the server's side;
* an *exchange* takes one request to one reply, over as many attempts as it needs.

Nothing in this package touches a socket, a clock or the reactor: callers give it
bytes, and it calls methods of the channels that it gets.
"""
