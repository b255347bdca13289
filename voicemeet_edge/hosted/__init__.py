"""What a user of the hosted backend runs on his own machine."""
