"""Updates: what is offered, who takes it when, and whether a new system is trusted (docs/updates.md)."""
