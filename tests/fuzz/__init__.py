"""Every reader of what may come from elsewhere, fed with damaged inputs: ``make fuzz``.

    corpus ─ mutation (seeded) ─▶ files ─▶ reader of a target ─▶ read, refused in words, or a finding

An *input* is a few files in a folder, one of them damaged.  It follows from target, seed and number alone
(`inputs.make`), so a finding is named by these three and made again at will.  A *target* (`targets.TARGETS`) is a
reader and the corpus it starts from.  A *finding* is what no reader may do with an input, however damaged: raise
anything but the refusal it documents, warn, take more than 2 s of processor or 1 GB of memory, hang, or end the
process.
"""
