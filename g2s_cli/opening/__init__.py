"""From a file to a crop: upright (opened), faces (found), placing (where the crop lies), cutting (the crop)."""
