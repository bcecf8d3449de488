"""Problems with a known answer, from the theory of optimization and learning."""
