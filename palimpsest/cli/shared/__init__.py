"""What several commands share: the console, hosts, policies at hand, pictures, prompts."""
