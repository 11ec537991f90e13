"""Where people's texts, votes and histories come in: loaders, schemas, splits and the embedded world."""
