"""What can go wrong in conversations."""

from k2k.core.errors import NotFound


class ConversationNotFound(NotFound):
    """There is no such conversation, or the one who asks takes no part in it."""

    code = "conversation-not-found"
    number = 1500
    title = "Conversation not found"
