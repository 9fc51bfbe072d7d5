"""Code that several commands share: console output, hosts, policies, pictures and prompts."""
