"""Live delivery against node `ws`, Socket.IO, FastAPI and Django Channels, side by side: `python -m bench live`."""
