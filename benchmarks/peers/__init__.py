"""The same models side by side: taut beside other libraries, each (peer, model) in a process of its own."""
