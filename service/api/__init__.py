"""What a client may ask: routes, uploads, the JSON of answers, the OpenAPI document."""
