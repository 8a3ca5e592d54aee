"""The search for hyperparameters: a study in a storage that workers on one machine or many take trials from."""
