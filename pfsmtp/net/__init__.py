"""Octets to and from the network.

listener       addresses bound, and what accepted connections inherit
socketio       the door to the compiled calls on descriptors
stream         a connection's octets with deadlines, in clear and under TLS, for the server
client_stream  the same for the client
dialing        connections in the making, several at a time
connection     one connection driven through one dialogue
"""
