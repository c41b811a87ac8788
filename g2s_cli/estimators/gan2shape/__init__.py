"""GAN2Shape (Pan et al., ICLR 2021), section 3: weak prior, steps 1 to 3, and the cycles that repeat them.

| paper | module |
|---|---|
| 3.1, weak shape prior | `prior` |
| step 1, albedo | `step1` |
| step 2, pseudo samples and their projections | `step2`, with views and lights of `sampling` |
| Eq. 2, 6, 7, offset encoder | `offset_encoder`, `offsets` |
| step 3, shape from projected samples (Eq. 3) | `step3` |
| 3.1, iterative self-refinement | `cycles` |
"""
