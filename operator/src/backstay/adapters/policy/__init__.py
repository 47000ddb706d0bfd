"""What a resource must be: the CRD's schema, the promotion policy and the registry's gates, by CEL."""
