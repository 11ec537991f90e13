"""Turn texts into features: embeddings and style in one space, and a nonlinear kernel."""
