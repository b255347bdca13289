"""The recipe of packages and images: one noun a file, driven by the commands beside this folder."""
