"""The wire: messages, topics and the codec. The only code that knows bytes."""
