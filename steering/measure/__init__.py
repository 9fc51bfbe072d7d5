"""What can be measured at sites: single calls, contributions, activations, fitted operators, the self-test."""
