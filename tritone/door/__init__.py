"""The front door of a server: the only ports that clients reach, in front of a Triton server without ports."""
