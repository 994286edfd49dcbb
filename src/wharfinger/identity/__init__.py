"""Who is asking: IAM tokens and AK/SK signatures."""
