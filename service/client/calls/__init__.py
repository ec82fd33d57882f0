"""The API's operations as calls: what to send, how to read the answer, no more."""
