"""What the service's OpenAPI document promises, held against the service by schemathesis."""
