"""IAM v3 as Keystone and the cloud speak it: tokens, projects, temporary keys."""
