"""HTTP dialects over one engine: each route translates, none decides how to generate."""
