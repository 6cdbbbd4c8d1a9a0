"""What every request passes through: connections, middleware, problems and CORS."""
