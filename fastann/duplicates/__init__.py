"""Near-duplicate rows, found inside clusters and across their borders, and dropped but for one of each.

`find` is the way in: it prepares the rows and says which of them are compared; `choice` compares them and decides which
stay; `result` holds and writes the outcome.

After SemDeDup (Abbas et al., 2023), which compares the rows of each cluster with each other only, so that two
near-duplicates in different clusters both stay. Here a row is also compared with the rows of every cluster whose border
it is near to.

Let x and y be unit rows with a cosine of at least t, so at most r = sqrt(2 - 2 t) apart, and let x be nearest to
centre i, y to centre j. They lie on two sides of the plane of points as far from i as from j, and their distances
to it add up to at most r: one of them is within r / 2 of it. So every such pair is found by comparing each cluster's
rows with each other and with the *guests* of the cluster: the rows of others within r / 2 of the border with it.

Which rows are kept does not depend on the order of comparisons. Rows have a rank (`keep`), and a row is kept unless a
*kept* row of a better rank reaches the threshold with it: the lexicographically first maximal independent set. Each row
looks for the first row of better rank that reaches the threshold with it. If that row is kept, this one is dropped; if
it is dropped, this one looks for the next; and if it is undecided, this one waits (Blelloch, Fineman and Shun, 2012).
No pair is stored, and dropped rows are compared no more, so that a cluster of copies takes time in proportion to its
rows.
"""
