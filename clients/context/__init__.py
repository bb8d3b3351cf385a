"""What a model should know beside the text at the cursor: neighbours from the same repository."""
