"""What a model's answer says: prose, a thought, tool calls. A format is read from the chat template; a stream is read piece by piece."""
