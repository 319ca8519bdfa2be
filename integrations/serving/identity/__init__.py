"""Who asks: keys of Medward's own, and access tokens of an OAuth 2.0 or OpenID Connect server."""
