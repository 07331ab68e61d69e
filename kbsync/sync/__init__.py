"""What a user does, one file each. A workflow joins the parts below it and owns no logic of theirs."""
