"""Who looks at pictures when quality is measured; none of them is asked by the service."""
