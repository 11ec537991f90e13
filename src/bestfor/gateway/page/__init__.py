"""Page at ``/``: people, recent answers, and a playground, for those who run a gateway."""
