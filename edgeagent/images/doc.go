// Package images is what a node does with images beside pulling them: which
// credentials a registry gets, which images go when the disk is full, and which
// come from a folder instead of a registry. edgeagent/pods asks a [Keyring] at each
// pull; edgeagent runs a [Collector] and a [Folder].
//
//	imagePullSecrets --+
//	exec plugins ------+--> Keyring.Lookup(image) --> credentials, in the order to try
//
//	Collector   every 5 minutes: above the high threshold, remove the least recently
//	            used images until the low one; never one that is used, wanted or pinned
//	Folder      archives that lie in imageDir are imported, once each
//
// Names, orders, thresholds and words are the kubelet's. Nothing here starts a
// container, and nothing here knows a pod but by what it wants.
package images
