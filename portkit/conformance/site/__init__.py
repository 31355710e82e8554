"""The compatibility matrix of a registry: a folder of static pages, and the same as Markdown and CSV."""
