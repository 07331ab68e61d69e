"""kbsync keeps what a language model believes in step with a knowledge base."""

__version__ = "0.1.0"
