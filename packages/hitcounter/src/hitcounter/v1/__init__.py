"""Generated from proto/hitcounter/v1: see proto/README.md for how the contract may change."""
