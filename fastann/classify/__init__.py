"""Classification by several prototypes per class: a thin layer over the clustering engine."""
