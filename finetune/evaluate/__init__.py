"""What a fine-tune gained: answers before and after it, and what they are worth."""
