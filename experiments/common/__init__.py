"""What the pages of several questions do alike: their words, studies, jobs, pairs and stacks."""
