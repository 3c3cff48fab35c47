"""Independent plain readings of the methods: scalar loops over tokens, nothing of the project's own code."""
