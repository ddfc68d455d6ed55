"""The data plane: one file per arrow of poll → batch → invoke → classify → decide → checkpoint | destination."""
