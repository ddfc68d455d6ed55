"""What is done with a queue's messages, as values: gathering, holding, settling, how many calls at a time. Pure."""
